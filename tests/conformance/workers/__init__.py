"""What every worker does, whichever transport it stands on."""
