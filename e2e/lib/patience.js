/**
 * How long a test waits for what has to come, in milliseconds.
 *
 * Only what never comes takes that long, so it may be far more than any machine needs, however busy it is with other
 * things. A test of how soon something comes says so itself.
 */
export const PATIENCE = 20_000;
