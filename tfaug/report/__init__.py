"""Report a finished run: tables, figures, one HTML page and summary.json. No TensorFlow.

write_report(workdir)               WORKDIR/summary.json and WORKDIR/report.html
short_table(summary)                the same run in a few lines of text
save_readme_picture(workdir, path)  the same run in one picture
contact_sheet(names, images)        labelled rows of enlarged images, as PNG bytes
"""

from tfaug.extras import explained

with explained():
    from tfaug.report.figures import contact_sheet, save_readme_picture
    from tfaug.report.page import write_report
    from tfaug.report.read import read_run
    from tfaug.report.short_table import short_table
    from tfaug.report.summary import summarize

__all__ = ["contact_sheet", "read_run", "save_readme_picture", "short_table", "summarize", "write_report"]
