import { Sfc32 } from '../../core/index.ts';
import {
  decodeToken,
  type ExploreOptions,
  type ExploreResult,
  encodeToken,
  explore,
  type SmallFailure,
  type StackOptions,
  shrinkSteps,
  type Violation,
} from '../../explore/index.ts';
import type { StoreRules } from '../../statefs/index.ts';
import { virtioThrough } from '../../virtio/index.ts';
import type { FuzzCase, FuzzFaults, FuzzStep } from './case.ts';
import { type FuzzSpace, isWithin, mutatedCase, randomCase } from './generate.ts';
import { fuzzScenario } from './scenario.ts';
import { describeFuzzStep } from './words.ts';

export interface FuzzerOptions extends FuzzSpace {
  /** Runs are numbered; a run is a function of seed, number, and what is known when it starts. Default 1. */
  readonly seed?: number;
  /** Recoveries that one case has. Default 500. */
  readonly maxRecoveries?: number;
  /** Cases to start from, from earlier sessions. */
  readonly corpus?: readonly FuzzCase[];
  /** Ways through recovery that are known already. */
  readonly paths?: Iterable<string>;
  /** A store with a rule taken away, and its name: it goes into tokens. Default: the sound one. */
  readonly broken?: { readonly name: string; readonly rules: StoreRules };
}

/** A case that fails, made small. */
export interface FuzzFailure {
  readonly case: FuzzCase;
  /** Each step in words. */
  readonly steps: readonly string[];
  readonly message: string;
  /** For `powercut replay`; it holds the whole case. */
  readonly token: string;
  readonly violation: Violation;
  /** Operations that begin in it. */
  readonly operations: number;
  /** Sectors that did not keep their newest version. */
  readonly deviations: number;
}

/** How one case went. */
export interface FuzzOutcome {
  readonly case: FuzzCase;
  readonly recoveries: number;
  readonly images: bigint;
  /** Every crash that the case asks for was explored. Never so for a random search, nor with a fault. */
  readonly complete: boolean;
  /** Ways through recovery that no case before it took. */
  readonly newPaths: readonly string[];
  readonly failure: FuzzFailure | undefined;
}

const DEFAULT_MAX_RECOVERIES = 500;
/** Workloads to try in making a failure small. */
const SHRINK_WORKLOADS = 100;
/** So many times the recoveries of a case, where the faults that it skipped are tried too. */
const FROM_START_FACTOR = 4;

/** Draws cases, runs them, and goes on from those that took recovery along a new path. */
export class Fuzzer {
  readonly paths: Set<string>;
  readonly #corpus: FuzzCase[];
  readonly #options: FuzzerOptions;
  #run = 0;

  constructor(options: FuzzerOptions = {}) {
    this.#options = options;
    this.#corpus = (options.corpus ?? []).filter((one) => isWithin(one, options));
    this.paths = new Set(options.paths ?? []);
  }

  /** Draws the next case, every second one from one that is known, and runs it. */
  next(): FuzzOutcome {
    const outcome = this.run(this.#draw());
    if (outcome.newPaths.length > 0) this.#corpus.push(outcome.case);
    return outcome;
  }

  /** Runs one case. */
  run(theCase: FuzzCase): FuzzOutcome {
    const newPaths = new Set<string>();
    const onPath = (path: string) => {
      if (!this.paths.has(path)) newPaths.add(path);
    };
    const result = this.#explore(theCase, onPath);
    for (const path of newPaths) this.paths.add(path);
    return {
      case: theCase,
      recoveries: result.recoveries,
      images: result.images,
      // It begins with the first fault after so many: those before are for others.
      complete: result.complete && theCase.faults === undefined,
      newPaths: [...newPaths].sort(),
      failure: this.#failureOf(theCase, result),
    };
  }

  #draw(): FuzzCase {
    const prng = new Sfc32((this.#options.seed ?? 1) + ++this.#run * 0x1_0000_0000);
    const { length } = this.#corpus;
    if (length === 0 || prng.below(2) === 0) return randomCase(prng, this.#options);
    return mutatedCase(prng, this.#corpus[prng.below(length)] as FuzzCase, this.#options);
  }

  #explore(theCase: FuzzCase, onPath?: (path: string) => void): ExploreResult {
    return explore(this.#scenarioOf(theCase, onPath), this.#explorationOf(theCase));
  }

  #scenarioOf(theCase: FuzzCase, onPath?: (path: string) => void): ReturnType<typeof fuzzScenario> {
    const { broken } = this.#options;
    return fuzzScenario(theCase, {
      ...(broken === undefined ? {} : { rules: broken.rules }),
      ...(onPath === undefined ? {} : { onPath }),
    });
  }

  #explorationOf(theCase: FuzzCase, factor = 1): ExploreOptions {
    const { search, profile, faults } = theCase;
    const draws = search.strategy === 'random' ? { seed: search.seed, runs: search.runs } : {};
    const { maxRecoveries = DEFAULT_MAX_RECOVERIES } = this.#options;
    const { strategy, depth } = search;
    return {
      ...fuzzStack(theCase),
      profile,
      strategy,
      depth,
      ...draws,
      ...(faults === undefined ? {} : { media: { kinds: [faults.kind] }, plan: planOf(faults) }),
      maxRecoveries: maxRecoveries * factor,
      maxViolations: 1,
    };
  }

  #failureOf(theCase: FuzzCase, result: ExploreResult): FuzzFailure | undefined {
    const { nondeterminism } = result;
    if (nondeterminism !== undefined) {
      const { crashPoint, message } = nondeterminism;
      throw new Error(
        `recovery is not deterministic at crash point ${crashPoint}: ${message}: ${JSON.stringify(theCase)}`,
      );
    }
    const [violation] = result.violations;
    if (violation === undefined) return undefined;
    const [smallCase, small] = this.#shrunk(theCase);
    return {
      case: smallCase,
      steps: small.steps.map(describeFuzzStep),
      message: small.violation.message,
      token: this.#tokenOf(smallCase, small.violation),
      violation: small.violation,
      operations: small.operations,
      deviations: small.deviations,
    };
  }

  #shrunk(theCase: FuzzCase): [FuzzCase, SmallFailure<FuzzStep>] {
    const { faults } = theCase;
    // With fewer steps the fault comes sooner. From the start it may be out of reach of the recoveries that a case has.
    const starts = faults === undefined ? [theCase] : [{ ...theCase, faults: { ...faults, skip: 0 } }, theCase];
    for (const start of starts) {
      const explore = this.#explorationOf(start, faults === undefined ? 1 : FROM_START_FACTOR);
      const scenarioOf = (steps: readonly FuzzStep[]) => this.#scenarioOf({ ...start, steps });
      const small = shrinkSteps(start.steps, scenarioOf, { explore, maxWorkloads: SHRINK_WORKLOADS });
      if (small !== undefined) return [{ ...start, steps: small.steps }, small];
    }
    throw new Error(`a failing case does not fail again: ${JSON.stringify(theCase)}`);
  }

  /** The violation's token, with all that makes the scenario. */
  #tokenOf(theCase: FuzzCase, violation: Violation): string {
    const { broken } = this.#options;
    const settings = {
      through: theCase.through,
      fuzz: JSON.stringify(theCase),
      ...(broken === undefined ? {} : { break: broken.name }),
    };
    return encodeToken({ ...decodeToken(violation.token), settings });
  }
}

/** Where among the faults to begin: with the first alternative at the place after those that are skipped. */
function planOf({ skip }: FuzzFaults): readonly number[] {
  return [...new Array<number>(skip).fill(0), 1];
}

/** The layers that a case asks for. */
function fuzzStack({ through }: FuzzCase): Pick<StackOptions, 'through'> {
  return through === 'virtio' ? { through: virtioThrough() } : {};
}
