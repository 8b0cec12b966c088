-- $1 tariff: does a message name one of its prices?  No index leads from a price to its messages;
-- but none is older than the tariff, so that only its days are read (a day more, for the clocks).
SELECT EXISTS (
    SELECT FROM message
    WHERE id >= (SELECT id_from_time(created_at - interval '1 day') FROM tariff WHERE id = $1)
      AND price_id IN (SELECT id FROM price WHERE tariff_id = $1)
)
