/** No node: the end of a list. */
export const NO_NODE = 0;

/**
 * Lists of versions, newest first, in typed arrays. Nodes never change once made, so a list is one number, lists share
 * their tails, and a snapshot of a list is that number.
 */
export class VersionNodes {
  /** The version at a node; may be in the list twice when a sector was written back to what it held before. */
  version: Int32Array = new Int32Array(256);
  /** The next older node. */
  older: Int32Array = new Int32Array(256);
  /** How many *distinct* versions the list from here on has. */
  distinct: Int32Array = new Int32Array(256);
  /** Number of the write that made it; 0 for what was durable. Negated where the write tore here. */
  stamp: Int32Array = new Int32Array(256);
  #size = 1;
  #free: number = NO_NODE;

  get size(): number {
    return this.#size;
  }

  push(version: number, older: number, stamp: number): number {
    const node = this.#take();
    this.version[node] = version;
    this.older[node] = older;
    this.stamp[node] = stamp;
    this.distinct[node] = this.distinct[older]! + (this.holds(older, version) ? 0 : 1);
    return node;
  }

  /** Whether the list from `node` on has this version. */
  holds(node: number, version: number): boolean {
    for (; node !== NO_NODE; node = this.older[node]!) if (this.version[node] === version) return true;
    return false;
  }

  /** The node of the `index`-th distinct version, newest first. */
  pick(head: number, index: number): number {
    let node = head;
    for (let seen = 0; ; node = this.older[node]!) {
      if (this.#repeats(head, node)) continue;
      if (seen++ === index) return node;
    }
  }

  /** Gives the nodes of a list back for reuse. Not to be mixed with `rewind`. */
  release(head: number): void {
    for (let node = head; node !== NO_NODE; ) {
      const older = this.older[node]!;
      this.older[node] = this.#free;
      this.#free = node;
      node = older;
    }
  }

  rewind(size: number): void {
    this.#size = size;
  }

  clone(): VersionNodes {
    const copy = new VersionNodes();
    copy.version = this.version.slice();
    copy.older = this.older.slice();
    copy.distinct = this.distinct.slice();
    copy.stamp = this.stamp.slice();
    copy.#size = this.#size;
    copy.#free = this.#free;
    return copy;
  }

  /** Whether a newer node of the list has the version of `node` already. */
  #repeats(head: number, node: number): boolean {
    for (let newer = head; newer !== node; newer = this.older[newer]!) {
      if (this.version[newer] === this.version[node]) return true;
    }
    return false;
  }

  #take(): number {
    if (this.#free !== NO_NODE) {
      const node = this.#free;
      this.#free = this.older[node]!;
      return node;
    }
    if (this.#size === this.version.length) this.#grow();
    return this.#size++;
  }

  #grow(): void {
    const length = this.version.length * 2;
    this.version = resized(this.version, length);
    this.older = resized(this.older, length);
    this.distinct = resized(this.distinct, length);
    this.stamp = resized(this.stamp, length);
  }
}

/** A longer copy. */
export function resized(source: Int32Array, length: number): Int32Array {
  const copy = new Int32Array(length);
  copy.set(source);
  return copy;
}
