"""The speed of robustjax, side by side with PyTorch and with what the device can do at best."""
