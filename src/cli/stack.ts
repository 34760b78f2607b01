import type { StackOptions } from '../explore/index.ts';
import { virtioThrough } from '../virtio/index.ts';

/** What stands between a scenario and the disk. */
export type Through = 'virtio' | 'direct';

/** The layers of `through`. */
export function stackOf(through: Through): Pick<StackOptions, 'through'> {
  return through === 'direct' ? {} : { through: virtioThrough() };
}
