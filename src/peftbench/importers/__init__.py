"""What others have printed or measured, read here and marked as theirs; nothing is trained or measured."""

from peftbench.importers.printed import (
    PrintedCell,
    PrintedColumn,
    PrintedRow,
    PrintedTable,
    printed_table,
    printed_tables,
)

__all__ = ["PrintedCell", "PrintedColumn", "PrintedRow", "PrintedTable", "printed_table", "printed_tables"]
