"""How the models that the gateway runs were made and are measured; nothing here is served."""
