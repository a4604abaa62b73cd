"""What a user asks for: check, predict, view, demo; one file and one public function each."""
