import type { BlockDevice } from '../blockdev/index.ts';
import { type VirtioStack, virtioStack } from '../virtio/index.ts';

/** What stands between a scenario and the disk. */
export type Through = 'virtio' | 'direct';

/**
 * The layers of `through`. The virtio stack is built once and started anew, with its whole handshake, for each
 * recovery: guest memory is the one thing that is kept, as on a machine that is reset.
 */
export function stackOf(through: Through): { through?: (backend: BlockDevice) => BlockDevice } {
  if (through === 'direct') return {};
  let stack: VirtioStack | undefined;
  return {
    through: (backend) => {
      if (stack === undefined) stack = virtioStack(backend);
      else stack.restart(backend);
      return stack.driver;
    },
  };
}
