/** No violation; what was asked for is so. */
export const EXIT_CLEAN = 0;
/** A violation, or whatever the command is there to find. */
export const EXIT_VIOLATION = 1;
/** The caller's mistake, or what kept the command from a verdict. */
export const EXIT_MISUSE = 2;
/** Not complete, and completeness was required. */
export const EXIT_INCOMPLETE = 3;
