"""Cells of tables that people open in a spreadsheet."""

_FORMULA = ("=", "+", "-", "@", "\t", "\r")  # how a cell begins that Excel, LibreOffice and Google Sheets compute


def guarded(cell: str) -> str:
    """Text as text: what would be taken for a formula gets an apostrophe in front (OWASP, "CSV Injection")."""
    return f"'{cell}" if cell.startswith(_FORMULA) else cell
