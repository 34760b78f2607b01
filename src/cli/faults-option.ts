import { InvalidArgumentError } from 'commander';
import { explorableFaultKinds, type MediaFaultKind } from '../faults/index.ts';

/** `bit-rot,lost-write`: kinds of media faults. */
export function parseFaults(text: string): readonly MediaFaultKind[] {
  return text.split(',').map((word) => {
    const kind = explorableFaultKinds.find((one) => one === word.trim());
    if (kind !== undefined) return kind;
    throw new InvalidArgumentError(`expected some of ${explorableFaultKinds.join(', ')}, got ${JSON.stringify(word)}`);
  });
}
