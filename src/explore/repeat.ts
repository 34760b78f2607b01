import { messageOf, type Work } from '../core/index.ts';
import { describeEvent } from './labels.ts';
import type { Session } from './session.ts';
import type { TraceEvent } from './trace.ts';

/**
 * Records the workload of a session once more.
 * @param again a fresh session of the same
 * @returns the first difference, in words: no token of such a workload can be replayed
 */
export function* differenceWhenRepeated(session: Session, again: Session): Work<string | undefined> {
  try {
    yield* again.record();
  } catch (error) {
    // What was found stands.
    return `it throws: ${messageOf(error)}`;
  }
  const length = Math.max(session.events.length, again.events.length);
  for (let at = 0; at < length; at++) {
    const [one, other] = [session.events[at], again.events[at]];
    if (isSame(session, one, again, other)) continue;
    const [first, second] = [wordsOf(session, one), wordsOf(again, other)];
    return `step ${at + 1} is ${first}, and then ${first === second ? 'the same with other bytes' : second}`;
  }
  return undefined;
}

function isSame(session: Session, one: TraceEvent | undefined, again: Session, other: TraceEvent | undefined): boolean {
  return one !== undefined && other !== undefined && session.fingerprintOf(one) === again.fingerprintOf(other);
}

function wordsOf({ scenario }: Session, event: TraceEvent | undefined): string {
  return event === undefined ? 'nothing more' : describeEvent(scenario, event);
}
