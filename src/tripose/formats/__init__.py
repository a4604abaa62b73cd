"""Files of other programs: one reader or writer each."""
