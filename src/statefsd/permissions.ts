import { OPERATION_NAMES, OPERATIONS, type OperationName, type OperationScope } from './operations.ts';

const BITS: ReadonlyMap<string, number> = new Map(OPERATION_NAMES.map((name, at) => [name, 1 << at]));

/** One bit for an operation; 0 for a name that is none, which no rule matches. */
export function operationBit(name: string): number {
  return BITS.get(name) ?? 0;
}

/** The bits of several. */
export function operationBits(names: readonly string[]): number {
  let bits = 0;
  for (const name of names) bits |= operationBit(name);
  return bits;
}

/** Whether `name` is an operation. */
export function isOperation(name: string): name is OperationName {
  return BITS.has(name);
}

/** What an operation is applied to. */
export function scopeOf(name: OperationName): OperationScope {
  return OPERATIONS[name].scope;
}
