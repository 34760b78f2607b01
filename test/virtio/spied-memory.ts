import type { FlatMemory, GuestMemory } from '../../src/virtio/index.ts';

/** A memory that tells every access, to see what the device touches, in which order. */
export function spied(log: string[], memory: FlatMemory): GuestMemory {
  return new Proxy(memory, {
    get(target, property) {
      const value: unknown = Reflect.get(target, property, target);
      if (typeof value !== 'function') return value;
      return (...args: number[]) => {
        log.push(`${String(property)} ${args[0]}${property === 'slice' ? `+${args[1]}` : ''}`);
        return value.apply(target, args);
      };
    },
  });
}
