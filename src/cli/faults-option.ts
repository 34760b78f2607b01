import { InvalidArgumentError } from 'commander';
import { type MediaFaultKind, mediaFaultKinds } from '../faults/index.ts';

/** What an exploration can make happen: no time passes in one. */
export const EXPLORED_FAULTS: readonly MediaFaultKind[] = mediaFaultKinds.filter((kind) => kind !== 'latency-spike');

/** `bit-rot,lost-write`: kinds of media faults. */
export function parseFaults(text: string): readonly MediaFaultKind[] {
  return text.split(',').map((word) => {
    const kind = EXPLORED_FAULTS.find((one) => one === word.trim());
    if (kind !== undefined) return kind;
    throw new InvalidArgumentError(`expected some of ${EXPLORED_FAULTS.join(', ')}, got ${JSON.stringify(word)}`);
  });
}
