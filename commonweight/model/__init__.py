"""What a user does with trained adapters: export, chat, average."""
