/**
 * Timeout for expected events, in milliseconds.
 *
 * Only failures wait that long, so it is far more than a busy machine needs.
 * Tests of latency have their own limits.
 */
export const PATIENCE = 20_000;
