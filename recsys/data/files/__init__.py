"""How single files become rows: text files in any encoding, and workbooks."""
