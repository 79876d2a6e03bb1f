"""What people mistype, and what they are told: docs/mistakes.md is made of these, and tested."""
