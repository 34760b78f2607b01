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
}

/**
 * Exhaustive enumeration: repeats the run before up to its last choice that has an alternative left, takes that, and 0
 * from there on. A question with one answer is no choice and is not recorded.
 *
 * With a bound, only lists with at most that many choices other than 0 are visited.
 */
export class DepthFirst implements Enumeration {
  readonly #values: number[] = [];
  readonly #options: number[] = [];
  readonly #labels: string[] = [];
  readonly #bound: number;
  #position = 0;
  #deviations = 0;
  #sharedCount = -1;

  /** @param bound the most choices other than 0 in a list; none by default */
  constructor(bound: number = Number.POSITIVE_INFINITY) {
    if (bound !== Number.POSITIVE_INFINITY) assertInteger(bound, 'bound');
    this.#bound = bound;
  }

  get sharedCount(): number {
    return this.#sharedCount;
  }

  choose(options: number, label: string): number {
    if (options <= 1) return 0;
    const at = this.#position++;
    if (at === this.#values.length) {
      this.#values.push(0);
      this.#options.push(options);
      this.#labels.push(label);
      return 0;
    }
    if (this.#options[at] !== options || this.#labels[at] !== label) {
      const before = `${this.#options[at]} options for "${this.#labels[at]}"`;
      throw new NondeterminismError(at, `expected ${before}, got ${options} for "${label}"`);
    }
    return this.#values[at]!;
  }

  /** @throws NondeterminismError where the run asked for fewer choices than it repeats */
  next(): boolean {
    if (this.#position < this.#values.length) {
      throw new NondeterminismError(this.#position, `expected a choice of "${this.#labels[this.#position]}", got none`);
    }
    this.#position = 0;
    for (let at = this.#values.length - 1; at >= 0; at--) {
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

  #drop(): void {
    this.#values.pop();
    this.#options.pop();
    this.#labels.pop();
  }
}

/** Depth-first over the lists with at most `bound` choices other than 0: few faults at a time, all combinations. */
export class Bounded extends DepthFirst {
  constructor(bound: number) {
    assertInteger(bound, 'bound');
    super(bound);
  }
}

/** Each choice uniform and independent; runs never end by themselves. */
export class RandomChoices implements Enumeration {
  readonly sharedCount = -1;
  readonly #prng: Prng;

  constructor(prng: Prng) {
    this.#prng = prng;
  }

  choose(options: number, _label: string): number {
    if (options <= 1) return 0;
    return this.#prng.below(options);
  }

  next(): boolean {
    return true;
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
