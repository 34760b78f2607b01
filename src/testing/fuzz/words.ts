import type { KeyValueOp } from '../../explore/index.ts';
import { describeOperation } from '../scenarios/statefs-scenario.ts';
import { shortKey } from '../short-key.ts';
import type { FuzzPart, FuzzStep } from './case.ts';

/** A step in a few words. */
export function describeFuzzStep(step: FuzzStep): string {
  switch (step.do) {
    case 'put':
      return `put ${shortKey(step.key)} (${step.bytes} bytes, ${step.commit})`;
    case 'put-lazily':
      return `put ${shortKey(step.key)} (${step.bytes} bytes, lazily)`;
    case 'delete':
      return `delete ${shortKey(step.key)} (${step.commit})`;
    case 'transaction':
      return `transaction of ${step.parts.map(describePart).join(', ')} (${step.commit})`;
    default:
      return step.do;
  }
}

function describePart(part: FuzzPart): string {
  const key = shortKey(part.key);
  return 'bytes' in part ? `put ${key} (${part.bytes} bytes)` : `delete ${key}`;
}

/** An operation in a few words. */
export function describeOp(op: KeyValueOp): string {
  return op.kind === 'transaction' ? describeOperation(op) : describeOperation({ ...op, key: shortKey(op.key) });
}
