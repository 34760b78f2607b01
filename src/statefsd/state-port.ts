import { codeOf } from '../core/index.ts';

/** A value, or a promise of it: a store in this process answers at once, one behind a socket later. */
export type Answer<T> = T | PromiseLike<T>;

/** What a service needs of the store: the client has it, and {@link StateFs} with an adapter of a few lines. */
export interface StatePort {
  /** @throws an error with code ENOENT where there is no such key */
  get(path: string): Answer<Uint8Array>;
  /** Old or new bytes after any cut; the new ones once it has returned. */
  putAtomic(path: string, payload: Uint8Array, meta: { readonly purpose: string }): Answer<unknown>;
}

/** The value of `path`, or undefined where there is none. */
export async function getIfThere(store: StatePort, path: string): Promise<Uint8Array | undefined> {
  try {
    return await store.get(path);
  } catch (error) {
    if (codeOf(error) === 'ENOENT') return undefined;
    throw error;
  }
}

/** Runs one after the other what reads, decides and writes. */
export class OneAtATime {
  #last: Promise<unknown> = Promise.resolve();

  run<T>(work: () => Promise<T>): Promise<T> {
    const next = this.#last.then(work, work);
    // What went wrong is told to the one who asked, not to the next.
    this.#last = next.catch(() => {});
    return next;
  }
}
