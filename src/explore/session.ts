import type { BlockDevice } from '../blockdev/index.ts';
import {
  assertInteger,
  type Choices,
  CodedError,
  invariant,
  isThenable,
  undisturbed,
  type Work,
} from '../core/index.ts';
import {
  type Checkpoint,
  ChoiceRecorder,
  type DiskProfile,
  DiskState,
  ImageCount,
  type MediaFaultKind,
  type MediaOptions,
  NondeterminismError,
  type ProfileName,
  profileOf,
  RecordedChoices,
  resolveMedia,
} from '../faults/index.ts';
import { Attempt, type AttemptSetup } from './attempt.ts';
import type { History } from './history.ts';
import { labelOf } from './labels.ts';
import { RecoveryDisk } from './recovery-disk.ts';
import type { RecoveryTree } from './recovery-tree.ts';
import type { Scenario } from './scenario.ts';
import { StepLog } from './steps.ts';
import { type Level, type Linearity, withoutTrailingZeros } from './token.ts';
import { type CrashPoint, fingerprint, RecordingDisk, RecordingRun, type TraceEvent, TracePlayer } from './trace.ts';

/** What the scenario runs on. */
export interface StackOptions {
  /** Default `nvme-512`. */
  readonly profile?: ProfileName | DiskProfile;
  /** Puts layers between the scenario and the disk, for example a virtio stack. Called for each recovery. */
  readonly through?: (backend: BlockDevice) => BlockDevice;
  /** What `through` and the scenario were made from, kept in tokens for the one who replays. */
  readonly settings?: Readonly<Record<string, string>>;
  /** Faults of the medium, beside the cuts. Default: none. */
  readonly media?: MediaOptions;
  /** Which of them the workload has, as its choices; an exploration goes on from there. Default: none. */
  readonly plan?: readonly number[];
  /** A recovery with more device operations than this has not ended. Default 250,000. */
  readonly maxSteps?: number;
}

/** How one case went. */
interface CaseOutcome {
  /** The levels reached, with the choices really made. */
  readonly levels: readonly Level[];
  readonly violation: string | undefined;
  /** What the last recovery threw, where that is the violation. */
  readonly thrown: unknown;
  /** What each level did, where asked for. */
  readonly logs: readonly StepLog[];
  /** Where the power failed in each level but the last. */
  readonly cuts: readonly string[];
  /** Up to the end of the last level. */
  readonly history: History;
}

/** What is known of a crash point before anything is explored from it. */
export interface PointSurvey {
  readonly index: number;
  /** How many events of the trace have happened. */
  readonly eventIndex: number;
  readonly label: string;
  /** Images that a cut there can leave. */
  readonly images: bigint;
}

interface AttemptOptions {
  readonly history: History;
  readonly choices: Choices;
  readonly captures: boolean;
  readonly sharedCount?: number;
  readonly log?: StepLog | undefined;
  /** What recoveries are known to do. It takes this one in; by default it is neither asked nor told. */
  readonly tree?: RecoveryTree | undefined;
  /** Whether the tree may stand for a run; with `repeats` it is run, and must do what the tree has. Default `runs`. */
  readonly use?: 'known' | 'runs' | 'repeats';
}

/** A scenario on a profile and a stack, with its workload recorded: everything that cases are run from. */
export class Session {
  readonly scenario: Scenario;
  readonly profile: DiskProfile;
  readonly state: DiskState;
  readonly linear: Linearity;
  events: readonly TraceEvent[] = [];
  #fingerprint = 0;
  #sought: { readonly start: Checkpoint; readonly player: TracePlayer; point: CrashPoint } | undefined;
  readonly #through: (backend: BlockDevice) => BlockDevice;
  readonly #maxSteps: number;
  readonly media: Required<MediaOptions> | undefined;
  readonly #given: readonly number[];
  #chosen: ChoiceRecorder = new ChoiceRecorder(undisturbed);
  /** How often each kind of fault has fired in the workload. */
  readonly faultCounts: Map<MediaFaultKind, number> = new Map();

  constructor(scenario: Scenario, options: StackOptions, linear: Linearity) {
    this.scenario = checkScenario(scenario);
    this.profile = profileOf(options.profile ?? 'nvme-512');
    this.linear = linear;
    this.#through = options.through ?? ((backend) => backend);
    this.media = options.media === undefined ? undefined : resolveMedia(options.media);
    if (this.media !== undefined && scenario.knowsFaults === false) {
      throw misuse(
        `media: the invariant of ${scenario.name} does not know what faults may do: write a scenario whose invariant looks ` +
          'for { kind: "fault" } in the history',
      );
    }
    if (this.media?.kinds.includes('latency-spike')) {
      throw misuse('media: latency-spike: no time passes in an exploration; use SimulatedDisk for it');
    }
    this.#given = options.plan ?? [];
    this.#maxSteps = options.maxSteps ?? 250_000;
    assertInteger(this.#maxSteps, 'maxSteps', 1);
    const sectorCount = (scenario.disk.sectorCount * 512) / this.profile.sectorBytes;
    if (!Number.isInteger(sectorCount)) {
      const unit = this.profile.sectorBytes / 512;
      throw misuse(`disk.sectorCount: expected a multiple of ${unit} on ${this.profile.name}`);
    }
    this.state = new DiskState(this.profile, sectorCount, false);
  }

  /** Of the workload. */
  get fingerprint(): number {
    return this.#fingerprint;
  }

  /** Of one event of a workload of this session. */
  fingerprintOf(event: TraceEvent): number {
    return fingerprint([event], (version) => this.state.internedBytes(version));
  }

  /** Formats the disk and records the workload; the state is the formatted disk afterwards. */
  *record(): Work<void> {
    const disk = new RecordingDisk(this.state);
    const formatted = this.scenario.format(this.#through(disk));
    if (isThenable(formatted)) yield formatted;
    this.state.settleAll();
    const before = this.state.checkpoint();
    const events: TraceEvent[] = [];
    this.#chosen = new ChoiceRecorder(new RecordedChoices(this.#given));
    this.state.choices = this.#chosen;
    const recorder = new RecordingDisk(this.state, events, this.media);
    try {
      const worked = this.scenario.workload(this.#through(recorder), new RecordingRun(events));
      if (isThenable(worked)) yield worked;
    } catch (error) {
      // A program that a fault of the medium has brought down: its life ends there.
      if (!events.some(({ kind }) => kind === 'fault')) throw error;
    }
    this.state.undo(before);
    this.events = events;
    for (const event of events) if (event.kind === 'fault') countOne(this.faultCounts, event.fault.kind);
    this.#fingerprint = fingerprint(events, (version) => this.state.internedBytes(version));
  }

  /** What was chosen in the workload: which of its requests went wrong, and how. */
  get plan(): readonly number[] {
    return withoutTrailingZeros(this.#chosen.values);
  }

  /** The plan after this one, in the order of a depth-first search; undefined: there is none. */
  get nextPlan(): readonly number[] | undefined {
    const { choices } = this.#chosen;
    const at = choices.findLastIndex(({ value, options }) => value + 1 < options);
    if (at < 0) return undefined;
    return [...choices.slice(0, at).map(({ value }) => value), choices[at]!.value + 1];
  }

  /** How many faults may be the first in the workload, if none was before. */
  get firstFaultCount(): number {
    return this.#chosen.choices.reduce((sum, { options }) => sum + options - 1, 0);
  }

  /** Events up to and with the first fault of the workload: up to there it is the one without. 0: there is none. */
  get sharedEvents(): number {
    return this.events.findIndex(({ kind }) => kind === 'fault') + 1;
  }

  player(): TracePlayer {
    return new TracePlayer(this.state, this.events, this.linear);
  }

  /** All crash points, and how many images a cut at each can leave. The state is where it was afterwards. */
  survey(): PointSurvey[] {
    const before = this.state.checkpoint();
    const player = this.player();
    const points: PointSurvey[] = [];
    for (let point = player.next(); point !== undefined; point = player.next()) {
      const here = this.state.checkpoint();
      const pending = this.state.pendingGroups();
      this.state.cut();
      const images = new ImageCount();
      images.multiply(this.state, pending);
      const { index, eventIndex } = point;
      points.push({ index, eventIndex, label: labelOf(this.scenario, point), images: images.product });
      this.state.undo(here);
    }
    this.state.undo(before);
    this.state.rewind(before);
    return points;
  }

  /** Brings the state to a crash point: forwards from where it is, or from the start. */
  seek(index: number): CrashPoint {
    if (this.#sought === undefined || this.#sought.point.index > index) {
      const start = this.#sought?.start ?? this.state.checkpoint();
      this.state.undo(start);
      this.state.rewind(start);
      const player = this.player();
      this.#sought = { start, player, point: nextOf(player) };
    }
    const sought = this.#sought;
    while (sought.point.index < index) sought.point = nextOf(sought.player);
    return sought.point;
  }

  /** Runs one recovery from the state as it is; does not go back. */
  *attempt(options: AttemptOptions): Work<Attempt> {
    const { state, scenario, linear } = this;
    const { history, choices, captures, sharedCount = -1, log, tree, use = 'runs' } = options;
    const maxSteps = this.#maxSteps;
    const base = state.checkpoint();
    let setup: AttemptSetup = {
      ...{ scenario, state, linear, base, history, choices, captures, sharedCount, maxSteps },
      media: this.media,
      log,
      cursor: undefined,
    };
    if (tree !== undefined && use === 'known') {
      const known = this.#fromMemory(setup, tree);
      if (known.isFromMemory) return this.#close(known);
      state.undo(base);
      setup = { ...setup, choices: new ContinuedChoices(known.choices, choices) };
    }
    if (tree !== undefined) setup = { ...setup, cursor: tree.cursor(use === 'repeats') };
    const attempt = new Attempt(setup);
    state.choices = attempt;
    state.onResolve = log === undefined ? undefined : (resolution) => log.keep(state, resolution);
    try {
      let observed = scenario.recover(this.#through(new RecoveryDisk(setup, attempt)), attempt);
      if (isThenable(observed)) observed = yield observed;
      attempt.finish(observed);
    } catch (error) {
      attempt.fault(error);
    }
    return this.#close(attempt);
  }

  /** An attempt that is known in the tree; or the beginning of one that is not. */
  #fromMemory(setup: AttemptSetup, tree: RecoveryTree): Attempt {
    const attempt = new Attempt(setup);
    this.state.choices = attempt;
    this.state.onResolve = undefined;
    attempt.isFromMemory = tree.walk(attempt, new RecoveryDisk(setup, attempt));
    return attempt;
  }

  #close(attempt: Attempt): Attempt {
    attempt.close();
    if (attempt.misuse !== undefined) throw attempt.misuse;
    return attempt;
  }

  /**
   * Runs one case from the crash point at which the state is, and goes back to it.
   * @param choicesOf turns a level's list into choices
   */
  *runCase(
    point: CrashPoint,
    levels: readonly Level[],
    choicesOf: (values: readonly number[]) => Choices,
    logged: boolean,
  ): Work<CaseOutcome> {
    const before = this.state.checkpoint();
    const logs: StepLog[] = [];
    const taken: Level[] = [];
    const cuts: string[] = [];
    let history = point.history;
    let violation: string | undefined;
    let thrown: unknown;
    try {
      for (const level of levels) {
        this.state.cut();
        const base = this.state.checkpoint();
        const log = logged ? new StepLog() : undefined;
        if (log !== undefined) logs.push(log);
        const captures = level.cut >= 0;
        history = history.with(CUT);
        const attempt = yield* this.attempt({ history, choices: choicesOf(level.choices), captures, log });
        violation = attempt.violation;
        thrown = attempt.thrown;
        const snapshot = attempt.snapshots[level.cut];
        const ended = violation !== undefined || snapshot === undefined;
        taken.push(
          ended
            ? { choices: attempt.choices, cut: -1 }
            : { choices: attempt.choices.slice(0, snapshot.choiceCount), cut: level.cut },
        );
        history = ended ? attempt.history : snapshot.history;
        if (ended) break;
        if (log !== undefined) log.steps.length = snapshot.stepCount;
        cuts.push(snapshot.where);
        this.state.undo(base);
        this.state.apply(snapshot.delta);
      }
    } finally {
      this.state.undo(before);
      this.state.rewind(before);
    }
    return { levels: taken, violation, thrown, logs, cuts, history };
  }
}

/** Choices that were made already, then those of the source, which has made them. */
class ContinuedChoices implements Choices {
  readonly #made: readonly number[];
  readonly #source: Choices;
  #position = 0;

  constructor(made: readonly number[], source: Choices) {
    this.#made = made;
    this.#source = source;
  }

  choose(options: number, label: string): number {
    if (options <= 1) return 0;
    const made = this.#made[this.#position++];
    if (made === undefined) return this.#source.choose(options, label);
    if (made < options) return made;
    throw new NondeterminismError(this.#position - 1, `got ${options} options for "${label}", fewer than before`);
  }
}

function nextOf(player: TracePlayer): CrashPoint {
  const point = player.next();
  invariant(point !== undefined, 'a crash point past the last one was asked for');
  return point;
}

/** Counts one more of that kind. */
export function countOne(counts: Map<MediaFaultKind, number>, kind: MediaFaultKind): void {
  counts.set(kind, (counts.get(kind) ?? 0) + 1);
}

/** The event of a power cut. */
export const CUT = { kind: 'cut' } as const;

/** Choices that must be the recorded ones exactly. */
export function strictly(values: readonly number[]): Choices {
  return new RecordedChoices(values);
}

/** Runs work that does not wait. */
export function runSync<T>(work: Work<T>): T {
  const step = work.next();
  if (step.done === true) return step.value;
  // Somebody else may await it: an unhandled rejection here would be ours.
  step.value.then(undefined, () => undefined);
  work.return(undefined as T);
  throw misuse('this scenario is asynchronous: use exploreAsync or replayAsync');
}

export function misuse(message: string): CodedError {
  return new CodedError('EINVAL', message);
}

/** @throws CodedError EINVAL naming the first member that is not as a scenario's is */
function checkScenario(scenario: Scenario): Scenario {
  if (typeof scenario !== 'object' || scenario === null) throw misuse('scenario: expected an object');
  if (typeof scenario.name !== 'string' || scenario.name === '') throw misuse('scenario.name: expected a name');
  for (const member of ['format', 'workload', 'recover', 'invariant'] as const) {
    if (typeof scenario[member] !== 'function') throw misuse(`scenario.${member}: expected a function`);
  }
  if (typeof scenario.disk !== 'object' || scenario.disk === null)
    throw misuse('scenario.disk: expected { sectorCount }');
  assertInteger(scenario.disk.sectorCount, 'scenario.disk.sectorCount', 1);
  return scenario;
}
