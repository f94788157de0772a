import sys

from keras_cbam.cli import main

sys.exit(main())
