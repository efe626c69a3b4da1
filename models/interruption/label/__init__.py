"""What teachers say of the clips."""
