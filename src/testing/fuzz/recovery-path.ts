import type { StoreEvent, StoreStats } from '../../statefs/index.ts';

/** Watches one store open, and tells which way its recovery took. */
export class PathWatch {
  #superblocks = '';

  /** To be called before the store is opened. */
  begin(): void {
    this.#superblocks = '';
  }

  /** To be told of the store's events. */
  note({ type }: StoreEvent): void {
    if (type === 'superblock') this.#superblocks = 'superblock ';
  }

  /**
   * Which rows of the recovery table decided, and about how often each: a new one is a new path through recovery.
   * @param stats of the store, once it is open
   */
  path({ recoveryRows }: StoreStats): string {
    const rows = [...recoveryRows].filter(([, times]) => times > 0).sort(([a], [b]) => (a < b ? -1 : 1));
    return this.#superblocks + rows.map(([row, times]) => `${row}:${about(times)}`).join(' ');
  }
}

/** One, two, three or more, eight or more. */
function about(times: number): string {
  if (times < 3) return String(times);
  return times < 8 ? '3+' : '8+';
}
