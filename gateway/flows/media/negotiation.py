"""Checks each description of the SFU before it is sent to a client.

A client cannot apply a description that breaks the rules of offer and answer; a browser may then be unable to negotiate
on that connection at all. So an answer is corrected where only one correction is possible. A description that still
breaks a rule becomes an error, and the stream continues as it was negotiated before.

The rules are in ``sdp.offer_answer``, the corrections in ``sdp.mending``.
"""

from __future__ import annotations

from mcu.base import Rejected
from sdp.document import Description
from sdp.mending import mend, tidy
from sdp.offer_answer import Violation, is_valid_answer, offer_violations, violations


class UnusableDescription(Rejected):
    """A description of the SFU that no client can apply; the text names the broken rules."""


def checked_answer(offer: Description, answer: Description) -> Description:
    """Return a copy of the SFU's answer to ``offer``, corrected where it breaks a rule.

    Raises:
        UnusableDescription: it breaks a rule that cannot be corrected.
    """
    corrected = answer.copy()
    tidy(offer, corrected)
    if not is_valid_answer(offer, corrected):
        mend(offer, corrected)
        _require_none("answer", violations(offer, corrected))
    return corrected.freeze()


def checked_offer(offer: Description, previous: Description | None) -> Description:
    """Return the SFU's offer; ``previous`` is its previous offer on the same connection, if any.

    Raises:
        UnusableDescription: it breaks a rule.
    """
    _require_none("offer", offer_violations(offer, previous))
    return offer


def _require_none(type: str, broken: list[Violation]) -> None:
    if broken:
        raise UnusableDescription(f"the SFU's {type} is invalid: {', '.join(map(str, broken))}")
