import { assertInteger, type Choices, CodedError, type Prng } from '../core/index.ts';

/**
 * The same choices led to another question than the time before: what runs is not a function of its choices. Look for
 * clocks, randomness, state kept between runs, and iteration orders that differ.
 */
export class NondeterminismError extends Error {
  /** Index of the first choice that differed. */
  readonly step: number;

  constructor(step: number, difference: string) {
    super(`choice ${step} is not the one of the run before: ${difference}`);
    this.name = 'NondeterminismError';
    this.step = step;
  }
}

/** Choices that go through many runs, one list of choices a run. */
export interface Enumeration extends Choices {
  /** How many choices at its start this run has in common with the one before it; -1 where there was none. */
  readonly sharedCount: number;
  /** Prepares the next run. False: there is none. */
  next(): boolean;
  /** What is left, for somebody else to visit; empty where that can't be told. */
  rest(): readonly Rest[];
}

/** A part of an enumeration that is still to be visited. */
export interface Rest {
  /** The first list of it. */
  readonly start: readonly number[];
  /** How many choices of the start are fixed: those behind them go through all their values from here on. */
  readonly fixed: number;
  /** How much of the whole tree it is, if all answers to a question weigh the same. */
  readonly share: number;
}

const WHOLE = { start: [], fixed: 0 } as const;

/**
 * Exhaustive enumeration: repeats the run before up to its last choice that has an alternative left, takes that, and 0
 * from there on. A question with one answer is no choice and is not recorded.
 *
 * With a bound, only lists with at most that many choices other than 0 are visited. With a part, only that is: see
 * {@link Rest}.
 */
export class DepthFirst implements Enumeration {
  readonly #values: number[];
  readonly #options: number[] = [];
  readonly #labels: string[] = [];
  readonly #bound: number;
  /** The first choice that is changed. */
  readonly #floor: number;
  #position = 0;
  #deviations: number;
  #sharedCount: number;

  /**
   * @param bound the most choices other than 0 in a list; none by default
   * @param part to be visited; by default everything is
   */
  constructor(bound: number = Number.POSITIVE_INFINITY, part: Pick<Rest, 'start' | 'fixed'> = WHOLE) {
    const { start, fixed } = part;
    if (bound !== Number.POSITIVE_INFINITY) assertInteger(bound, 'bound');
    this.#bound = bound;
    this.#values = [...start];
    this.#floor = fixed;
    this.#deviations = start.filter((value) => value !== 0).length;
    this.#sharedCount = start.length - 1;
  }

  get sharedCount(): number {
    return this.#sharedCount;
  }

  choose(options: number, label: string): number {
    if (options <= 1) return 0;
    const at = this.#position++;
    if (at === this.#values.length) this.#values.push(0);
    const value = this.#values[at]!;
    if (at === this.#options.length && value < options) {
      this.#options.push(options);
      this.#labels.push(label);
      return value;
    }
    if (this.#options[at] !== options || this.#labels[at] !== label) {
      const before = `${this.#options[at] ?? `over ${value}`} options for "${this.#labels[at] ?? label}"`;
      throw new NondeterminismError(at, `expected ${before}, got ${options} for "${label}"`);
    }
    return value;
  }

  /** @throws NondeterminismError where the run asked for fewer choices than it repeats */
  next(): boolean {
    if (this.#position < this.#values.length) {
      const label = this.#labels[this.#position];
      throw new NondeterminismError(this.#position, `expected a choice of "${label ?? 'the start'}", got none`);
    }
    this.#position = 0;
    for (let at = this.#values.length - 1; at >= this.#floor; at--) {
      const value = this.#values[at]!;
      const deviations = value === 0 ? this.#deviations + 1 : this.#deviations;
      if (value + 1 < this.#options[at]! && deviations <= this.#bound) {
        this.#values[at] = value + 1;
        this.#deviations = deviations;
        this.#sharedCount = at;
        return true;
      }
      if (value !== 0) this.#deviations--;
      this.#drop();
    }
    return false;
  }

  /**
   * What would be visited from here on, in order, in two parts of about as many open choices. To be asked when a run has
   * ended, instead of {@link next}.
   */
  rest(): Rest[] {
    // How much of the tree one answer to each choice is.
    const shares: number[] = [];
    for (const options of this.#options) shares.push((shares.at(-1) ?? 1) / options);
    const open: { readonly at: number; readonly share: number }[] = [];
    let deviations = this.#deviations;
    for (let at = this.#values.length - 1; at >= this.#floor; at--) {
      const value = this.#values[at]!;
      const left = this.#options[at]! - 1 - value;
      if (left > 0 && (value === 0 ? deviations + 1 : deviations) <= this.#bound) {
        open.push({ at, share: left * shares[at]! });
      }
      if (value !== 0) deviations--;
    }
    const half = Math.ceil(open.length / 2);
    return [open.slice(0, half), open.slice(half)].flatMap((part, number) => {
      const [first] = part;
      if (first === undefined) return [];
      const start = [...this.#values.slice(0, first.at), this.#values[first.at]! + 1];
      const fixed = number === 0 ? part.at(-1)!.at : this.#floor;
      return [{ start, fixed, share: part.reduce((sum, { share }) => sum + share, 0) }];
    });
  }

  #drop(): void {
    this.#values.pop();
    this.#options.pop();
    this.#labels.pop();
  }
}

/** Depth-first over the lists with at most `bound` choices other than 0: few faults at a time, all combinations. */
export class Bounded extends DepthFirst {
  constructor(bound: number, part?: Pick<Rest, 'start' | 'fixed'>) {
    assertInteger(bound, 'bound');
    super(bound, part);
  }
}

/** What every choice of a media fault is called: 0 is none. */
export const FAULT_LABEL = 'media fault';
/** Of so many random choices of a fault one may be one. */
const FAULTLESS_IN = 8;

/** Each choice uniform and independent, but for faults, which are rarer; runs never end by themselves. */
export class RandomChoices implements Enumeration {
  readonly sharedCount = -1;
  readonly #prng: Prng;

  constructor(prng: Prng) {
    this.#prng = prng;
  }

  choose(options: number, label: string): number {
    if (options <= 1) return 0;
    // Faults are rare: were each as likely as none, the first thing that is asked about would always fail.
    if (label === FAULT_LABEL && this.#prng.below(FAULTLESS_IN) !== 0) return 0;
    return this.#prng.below(options);
  }

  next(): boolean {
    return true;
  }

  rest(): readonly Rest[] {
    return [];
  }
}

/** Repeats a list of choices; past its end it takes 0. */
export class RecordedChoices implements Choices {
  readonly #values: readonly number[];
  #position = 0;

  constructor(values: readonly number[]) {
    this.#values = values;
  }

  /** How many entries of the list have been taken. */
  get taken(): number {
    return Math.min(this.#position, this.#values.length);
  }

  /** @throws CodedError EINVAL where the list's entry is no option here: the list belongs to another run */
  choose(options: number, label: string): number {
    if (options <= 1) return 0;
    const at = this.#position++;
    const value = this.#values[at] ?? 0;
    if (Number.isSafeInteger(value) && value >= 0 && value < options) return value;
    throw new CodedError(
      'EINVAL',
      `recorded choice ${at} ("${label}"): expected 0 to ${options - 1}, got ${value}; replay it with what recorded it`,
    );
  }
}

/** A choice as it was asked for and answered. */
export interface Choice {
  readonly label: string;
  readonly options: number;
  readonly value: number;
}

/** Passes choices through and remembers them, for a report or a replay. */
export class ChoiceRecorder implements Choices {
  readonly choices: Choice[] = [];
  readonly #source: Choices;

  constructor(source: Choices) {
    this.#source = source;
  }

  /** The list that {@link RecordedChoices} repeats. */
  get values(): number[] {
    return this.choices.map((choice) => choice.value);
  }

  choose(options: number, label: string): number {
    const value = this.#source.choose(options, label);
    if (options > 1) this.choices.push({ label, options, value });
    return value;
  }
}
