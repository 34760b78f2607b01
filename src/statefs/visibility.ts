import { fail } from './errors.ts';
import type { IndexEntry } from './index-entry.ts';
import { KIND_LOST } from './layout.ts';

/** Says what may be read after a loss: never an older value in the place of a newer one, unless that is asked for. */
export class Visibility {
  readonly #lostSequence: number;
  readonly #acceptStale: boolean;

  /**
   * @param lostSequence a group with unknown keys was lost at this number; 0: none
   * @param acceptStale see {@link OpenOptions.acceptStale}
   */
  constructor(lostSequence: number, acceptStale: boolean) {
    this.#lostSequence = lostSequence;
    this.#acceptStale = acceptStale;
  }

  /** A group was lost with its keys: any key may be one of them. */
  get mayBeHidden(): boolean {
    return this.#lostSequence > 0;
  }

  /** @throws StateFsError EINTEGRITY where damage leaves the value, or its absence, unknown */
  check(key: string, entry: IndexEntry | undefined): void {
    if (entry?.kind === KIND_LOST)
      fail('EINTEGRITY', `${key}: its newest value is unreadable: put it again, or restore it`);
    this.#checkStale(key, entry?.sequence ?? 0);
  }

  /** @throws StateFsError EINTEGRITY where damage leaves unknown whether the key is there */
  checkPresence(key: string, entry: IndexEntry | undefined): void {
    if (entry?.kind !== KIND_LOST) this.#checkStale(key, entry?.sequence ?? 0);
  }

  /** @throws StateFsError EINTEGRITY where damage leaves unknown which keys there are */
  checkList(): void {
    if (!this.mayBeHidden || this.#acceptStale) return;
    fail('EINTEGRITY', 'list: a committed group was lost with its keys: open with acceptStale to list what is left');
  }

  #checkStale(key: string, sequence: number): void {
    if (sequence >= this.#lostSequence || this.#acceptStale) return;
    fail(
      'EINTEGRITY',
      `${key}: group ${this.#lostSequence} was committed later and lost with its keys, so this value may be stale: ` +
        'put it again, or open with acceptStale to read it',
    );
  }
}
