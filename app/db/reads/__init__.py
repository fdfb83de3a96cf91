"""Rows for the dashboard and the API. It only reads, and each method makes a fixed number of queries."""

from app.db.reads.approvals import ApprovalReads, Question, QuestionPage
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
    "Question",
    "QuestionPage",
    "Reads",
    "Tally",
]


class Reads(IncidentReads, ApprovalReads, DeliveryReads):
    """Everything that pages about incidents and deliveries read."""
