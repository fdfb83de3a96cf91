"""Rows for the dashboard and the API. It only reads, and each method makes a fixed number of queries."""

from app.db.reads.deliveries import DeliveryLine, DeliveryPage, DeliveryReads
from app.db.reads.incidents import TIMELINE, Entry, IncidentDetail, IncidentLine, IncidentPage, IncidentReads, Tally
from app.db.reads.reader import PAGE

__all__ = [
    "PAGE",
    "TIMELINE",
    "DeliveryLine",
    "DeliveryPage",
    "Entry",
    "IncidentDetail",
    "IncidentLine",
    "IncidentPage",
    "Reads",
    "Tally",
]


class Reads(IncidentReads, DeliveryReads):
    """Everything that pages about incidents and deliveries read."""
