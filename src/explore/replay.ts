import { runAsync, type Work } from '../core/index.ts';
import { describeEvent, keptSectors, labelOf } from './labels.ts';
import type { KeptSector } from './result.ts';
import type { Scenario } from './scenario.ts';
import { misuse, runSync, Session, type StackOptions, strictly } from './session.ts';
import type { Step } from './steps.ts';
import { type Case, decodeToken } from './token.ts';
import type { CrashPoint, TraceEvent } from './trace.ts';

/** One recovery of a replayed case. */
export interface StoryLevel {
  readonly steps: readonly Step[];
  /** Where the power failed again; undefined in the last. */
  readonly cut: string | undefined;
}

/** What a token stands for, run again and written down. */
export interface Story {
  readonly scenario: string;
  readonly profile: string;
  readonly case: Case;
  /** Where the power failed first. */
  readonly where: string;
  /** The workload's operations and what it did to the disk, up to there. */
  readonly before: readonly string[];
  readonly levels: readonly StoryLevel[];
  readonly kept: readonly KeptSector[];
  /** What was wrong this time; undefined: nothing was. */
  readonly violation: string | undefined;
  /** What the recovery threw, where that is the violation: its stack says where. */
  readonly thrown: unknown;
}

/**
 * Runs the case of a token again.
 * @param options the stack that the token was made on; the profile comes from the token unless it is given
 * @throws CodedError EINVAL for a token that is none, or that is not of this scenario and workload
 */
export function replay<Op, Observation>(
  scenario: Scenario<Op, Observation>,
  token: string,
  options: StackOptions = {},
): Story {
  return runSync(tell(scenario as Scenario, token, options));
}

/** {@link replay} for an asynchronous scenario. */
export async function replayAsync<Op, Observation>(
  scenario: Scenario<Op, Observation>,
  token: string,
  options: StackOptions = {},
): Promise<Story> {
  return runAsync(tell(scenario as Scenario, token, options));
}

function* tell(scenario: Scenario, token: string, options: StackOptions): Work<Story> {
  const theCase = decodeToken(token);
  if (theCase.scenario !== scenario.name) {
    throw misuse(
      `token: it is of scenario ${JSON.stringify(theCase.scenario)}, not of ${JSON.stringify(scenario.name)}: replay it with that one`,
    );
  }
  const session = new Session(scenario, stackOf(options, theCase), theCase.linear);
  yield* session.record();
  if (session.fingerprint !== theCase.fingerprint) {
    throw misuse('token: the workload is not the one that it was made from: explore again for a new token');
  }
  const player = session.player();
  let point = player.next();
  for (; point !== undefined && point.index < theCase.crashPoint; ) point = player.next();
  if (point === undefined) throw misuse(`token: there is no crash point ${theCase.crashPoint} in this workload`);
  const outcome = yield* session.runCase(point, theCase.levels, strictly, true);
  return {
    scenario: scenario.name,
    profile: session.profile.name,
    case: theCase,
    where: labelOf(scenario, point),
    before: storyOfTrace(session, point),
    levels: outcome.logs.map((log, at) => ({ steps: log.steps, cut: outcome.cuts[at] })),
    kept: keptSectors(outcome.logs),
    violation: outcome.violation,
    thrown: outcome.thrown,
  };
}

/** Profile and faults are the token's. */
function stackOf(options: StackOptions, theCase: Case): StackOptions {
  const profile = options.profile ?? (theCase.profile as NonNullable<StackOptions['profile']>);
  const { media } = theCase;
  return { ...options, profile, ...(media === undefined ? {} : { media: media.options, plan: media.plan }) };
}

/** The trace up to and with what is in flight at the crash point. */
function storyOfTrace(session: Session, point: CrashPoint): string[] {
  const events = session.events.slice(0, point.eventIndex);
  const inFlight = session.events[point.eventIndex];
  const open = session.linear === false ? notDurable(events) : new Set();
  const lines = events.map(
    (event) => `${describeEvent(session.scenario, event)}${open.has(event) ? ' (not durable yet)' : ''}`,
  );
  if (inFlight !== undefined && inFlight.kind !== 'begin' && session.linear !== 'whole') {
    lines.push(`${describeEvent(session.scenario, inFlight)} (in flight)`);
  }
  return lines;
}

/** The events that wrote what no flush and no durable write of the same sectors has covered since. */
function notDurable(events: readonly TraceEvent[]): Set<TraceEvent> {
  const open = new Set<TraceEvent>();
  const settled = new Set<number>();
  for (const event of events.toReversed()) {
    if (event.kind === 'flush') break;
    if (!('sector' in event)) continue;
    const sectorCount = event.kind === 'write' ? event.versions.length : event.sectorCount;
    const sectors = Array.from({ length: sectorCount }, (_, i) => event.sector + i);
    if (event.kind === 'write' && event.fua) for (const sector of sectors) settled.add(sector);
    else if (sectors.some((sector) => !settled.has(sector))) open.add(event);
  }
  return open;
}
