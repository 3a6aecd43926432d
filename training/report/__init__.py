"""The report page in a run's folder, and the page that compares several runs.

chart.py            lines over the epochs, as SVG
findings.py         what a network gets wrong: confusion, hardest images; one pass over the validation images
sections.py         parts of a page that any run has: figures, curves, settings, incidents
run_report.py       the report of any run; writing.py: its file, even if a part of it cannot be drawn
classification.py   what a classification adds: accuracy, confusion matrix, hardest images, explanations
comparison.py       several runs on one page
"""
