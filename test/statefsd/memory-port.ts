import { StateFsError } from '../../src/statefs/index.ts';
import type { StatePort } from '../../src/statefsd/index.ts';

/** A store in memory, with a list of what was put, and a fault where the test wants one. */
export class MemoryPort implements StatePort {
  readonly values = new Map<string, Uint8Array>();
  readonly puts: { readonly path: string; readonly payload: Uint8Array; readonly purpose: string }[] = [];
  /** Asked before each put. */
  onPut: () => void = () => {};

  async get(path: string): Promise<Uint8Array> {
    const value = this.values.get(path);
    if (value === undefined) throw new StateFsError('ENOENT', `${path}: there is no such key`);
    return value.slice();
  }

  async putAtomic(path: string, payload: Uint8Array, { purpose }: { readonly purpose: string }): Promise<void> {
    this.onPut();
    this.values.set(path, payload.slice());
    this.puts.push({ path, payload: payload.slice(), purpose });
  }
}
