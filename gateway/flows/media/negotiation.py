"""Checks each description of the SFU before it is sent to a client, and clients' answers before the SFU gets them.

A client cannot apply a description that breaks the rules of offer and answer; a browser may then be unable to negotiate
on that connection at all. So an answer of the SFU is corrected where only one correction is possible. A description
that still breaks a rule becomes an error, and the stream continues as it was negotiated before.

The rules are in ``sdp.offer_answer``, the corrections in ``sdp.mending``.
"""

from __future__ import annotations

from collections.abc import Sequence

from mcu.base import Rejected
from sdp.document import Description
from sdp.mending import mend, tidy
from sdp.offer_answer import Rule, Violation, is_valid_answer, offer_violations, unusable_parts, violations


class UnusableDescription(Rejected):
    """A description of the SFU, or answer of a client, that the other side cannot apply; the text names the rules."""


def checked_answer(offer: Description, answer: Description) -> Description:
    """Return a copy of the SFU's answer to ``offer``, corrected where it breaks a rule.

    Raises:
        UnusableDescription: it breaks a rule that cannot be corrected.
    """
    corrected = answer.copy()
    tidy(offer, corrected)
    if not is_valid_answer(offer, corrected):
        mend(offer, corrected)
        _require_valid("answer", violations(offer, corrected))
    return corrected.freeze()


def checked_offer(offer: Description, previous: Description | None) -> Description:
    """Return the SFU's offer; ``previous`` is its previous offer on the same connection, if any.

    Raises:
        UnusableDescription: it breaks a rule.
    """
    _require_valid("offer", offer_violations(offer, previous))
    return offer


def check_client_answer(offers: Sequence[Description], answer: Description) -> None:
    """Check that an SFU can use a client's answer to one of the offers on its connection, the latest last.

    A client may answer an offer that another one has superseded meanwhile, and that has fewer sections or other mids.

    Raises:
        UnusableDescription: the answer must not reach the SFU; the stream stays as it was negotiated before.
    """
    answered = (offer for offer in reversed(offers) if len(offer.media) == len(answer.media))
    found = unusable_parts(next(answered, offers[-1]), answer) if offers else []
    broken = [violation for violation in found if not _has_earlier_mid(offers, answer, violation)]
    if broken:
        raise UnusableDescription(f"the client's answer is invalid: {', '.join(map(str, broken))}")


def _has_earlier_mid(offers: Sequence[Description], answer: Description, violation: Violation) -> bool:
    """Return whether an answer breaks a rule only by the mid that the section had in an earlier offer."""
    if violation.rule is not Rule.MID:
        return False
    index = violation.section
    return answer.media[index].mid in {offer.media[index].mid for offer in offers if len(offer.media) > index}


def _require_valid(type: str, broken: list[Violation]) -> None:
    if broken:
        raise UnusableDescription(f"the SFU's {type} is invalid: {', '.join(map(str, broken))}")
