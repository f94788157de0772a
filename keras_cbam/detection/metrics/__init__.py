"""How good detections are, by COCO's and by VOC's rules."""
