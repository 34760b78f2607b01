import { doesMatch, type Group } from './group-reader.ts';
import { KIND_DELETE } from './layout.ts';
import { ACTIONS, type Row } from './recovery-table.ts';
import type { Superblock } from './superblock.ts';

/** A damaged group, and what still depends on it. */
export interface DamagedGroup {
  readonly sector: number;
  readonly sequence: number;
  readonly row: Row;
  /** It wrote keys that nothing tells any more. */
  readonly keysUnknown: boolean;
  /** Keys that it put, and that nothing later in the log wrote. */
  readonly live: ReadonlySet<string>;
}

/** The group at which the log ends, where it does not end cleanly. */
export interface TornGroup {
  readonly sector: number;
  readonly row: Row;
  readonly keys: readonly string[];
}

/** Listens to recovery: keeps what is damaged or torn, in proportion to that and not to the log. */
export class GroupWatch {
  readonly damaged: DamagedGroup[] = [];
  torn: TornGroup | undefined;
  /** Groups below the frontier whose number is past the one that the superblock gives for it. */
  readonly outOfSequence: { readonly sector: number; readonly sequence: number }[] = [];
  readonly #live: Set<string>[] = [];

  take(group: Group, row: Row, { frontierSector, frontierSequence }: Superblock): void {
    const { sector, sequence } = group;
    const action = ACTIONS[row];
    if (action === 'tail') {
      if (row !== 'end') this.torn = { sector, row, keys: keysOf(group) };
      return;
    }
    if (sector < frontierSector && sequence > frontierSequence) this.outOfSequence.push({ sector, sequence });
    if (this.#live.length > 0) {
      for (const key of keysOf(group)) for (const live of this.#live) live.delete(key);
    }
    if (action === 'apply') return;
    const live = new Set(putsOf(group));
    this.#live.push(live);
    const keysUnknown = row === 'contradiction' || !tellsEveryKey(group);
    this.damaged.push({ sector, sequence, row, keysUnknown, live });
  }
}

/** Whether each operation of a damaged group has a temp frame, or an entry of the commit, that says its key. */
function tellsEveryKey({ operations, entries, operationCount }: Group): boolean {
  if (operationCount === 0) return false;
  for (let i = 0; i < Math.max(operationCount, operations.length, entries.length); i++) {
    const operation = operations[i];
    const entry = entries[i];
    if (operation === undefined ? entry === undefined : entry !== undefined && !doesMatch(entry, operation)) {
      return false;
    }
  }
  return true;
}

function keysOf({ operations, entries }: Group): string[] {
  const keys = new Set<string>();
  for (const operation of operations) if (operation !== undefined) keys.add(operation.temp.key);
  for (const entry of entries) if (entry !== undefined) keys.add(entry.key);
  return [...keys];
}

function putsOf({ operations, entries }: Group): string[] {
  const keys = new Set<string>();
  for (const operation of operations) {
    if (operation !== undefined && operation.temp.kind !== KIND_DELETE) keys.add(operation.temp.key);
  }
  for (const entry of entries) if (entry !== undefined && entry.kind !== KIND_DELETE) keys.add(entry.key);
  return [...keys];
}
