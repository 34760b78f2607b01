/**
 * The one door through which nondeterminism comes in: which crash point, which version of a sector, which fault,
 * which latency, which completion order. A run is a pure function of the numbers that `choose` returned.
 */
export interface Choices {
  /**
   * Picks one of `options` alternatives. 0 is always the undisturbed one: everything persisted, no fault, in order.
   * @param options how many there are, at least 1
   * @param label what is chosen, for reports; a constant, so that asking costs no string
   * @returns an integer from 0 to `options - 1`
   */
  choose(options: number, label: string): number;
}

/** Always the undisturbed alternative. */
export const undisturbed: Choices = { choose: () => 0 };
