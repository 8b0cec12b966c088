"""What a client may repeat without paying again: the rows of retry_key, which the charge writes."""

from __future__ import annotations

from typing import Any


async def forget(connection: Any, answered: list[tuple[int, int, int]]) -> None:
    """These (account_id, hash, message_id) have been answered for certain.

    What is locked is being overwritten by a charge, and so is left alone.
    """
    await connection.execute(
        "DELETE FROM retry_key k USING (SELECT r.account_id, r.hash FROM retry_key r"
        " JOIN unnest($1::bigint[], $2::bigint[], $3::bigint[]) AS u(account_id, hash, message_id)"
        " USING (account_id, hash, message_id) FOR UPDATE OF r SKIP LOCKED) AS known"
        " WHERE k.account_id = known.account_id AND k.hash = known.hash",
        [a for a, _, _ in answered],
        [h for _, h, _ in answered],
        [m for _, _, m in answered],
    )


async def outcome(connection: Any, account_id: int, message_id: int) -> int | None:
    """The command_status for a retry of a message; None while nobody knows.

    A message in doubt is not sent again: its retry is told that it was taken.  So is that of one in
    the queue, as its first client was.
    """
    row = await connection.fetchrow(
        "SELECT o.command_status, d.message_id IS NOT NULL OR q.id IS NOT NULL AS taken"
        " FROM (SELECT $1::bigint AS account_id, $2::bigint AS message_id) m"
        " LEFT JOIN outcome o USING (account_id, message_id)"
        " LEFT JOIN in_doubt d USING (account_id, message_id)"
        " LEFT JOIN queued q ON q.account_id = m.account_id AND q.id = m.message_id",
        account_id,
        message_id,
    )
    if row["command_status"] is not None:
        return int(row["command_status"])
    return 0 if row["taken"] else None


async def forget_old(connection: Any) -> None:
    """Keys are valid for a day at most (`retry_safe_s`)."""
    await connection.execute(
        "DELETE FROM retry_key WHERE message_id < id_from_time(now() - interval '1 day')"
    )
