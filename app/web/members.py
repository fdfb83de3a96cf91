"""What an installation's admins let people do there: less than GitHub does, never more."""

from starlette.exceptions import HTTPException

from app.db.accounts import Accounts, Member
from app.domain.access import Role
from app.web.acts import act_of
from app.web.guard import Visit

AS_GITHUB = "github"


def appoint(accounts: Accounts, visit: Visit, installation_id: int, account_id: str, wanted: str) -> Member:
    """`wanted` is a role or AS_GITHUB. Raises HTTPException for what cannot be."""
    members = accounts.members(installation_id)
    member = next((each for each in members if str(each.account.id) == account_id), None)
    if member is None:
        raise HTTPException(400, visit.t("Nobody of that number has signed in here."))
    if visit.account is not None and member.account.id == visit.account.id:
        raise HTTPException(409, visit.t("Your own role is set by another admin."))
    if wanted != AS_GITHUB and wanted not in set(Role):
        raise HTTPException(400, visit.t("There is no such role."))
    role = None if wanted == AS_GITHUB else Role(wanted)
    if role is not None and role.covers(member.ceiling):
        why = visit.t("GitHub lets them do no more than that: a role can only be less than GitHub’s.")
        raise HTTPException(400, why)
    former = member.most.value if member.most else AS_GITHUB
    act = act_of(visit, "set_role", "account", member.account.id, login=member.account.login, role=wanted, was=former)
    accounts.appoint(installation_id, member.account.id, role, act)
    return member
