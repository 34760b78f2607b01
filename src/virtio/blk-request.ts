import { HEADER_BYTES } from './blk-layout.ts';
import type { DescriptorChain } from './chain.ts';

/** A request as the guest put it, each field read once. Reusable: one object serves all requests. */
export class BlkRequest {
  /** One of the types of 5.2.6, or any other number; -1 where there is no whole header. */
  type = -1;
  /** In units of 512 bytes; -1 for more than 2^53 - 1. */
  unit = 0;
  /** Bytes that the driver hands over behind the header; the chain's readable stream stands at the first. */
  givenBytes = 0;
  /** Bytes that the driver has room for, before the status byte. */
  roomBytes = 0;
  /** Where the status byte goes; -1 where there is none to be written. */
  statusAddress = -1;

  /** Reads the header, wherever the driver cut it: no layout of descriptors is assumed (virtio 2.7.4.1). */
  parse(chain: DescriptorChain): void {
    const { readable, writable } = chain;
    this.statusAddress = writable.lastAddress;
    this.roomBytes = Math.max(0, writable.totalBytes - 1);
    this.givenBytes = readable.totalBytes - HEADER_BYTES;
    this.type = -1;
    if (this.givenBytes < 0) return;
    this.type = readable.takeU32();
    // The reserved word (a priority, long ago) has no meaning (5.2.6).
    readable.takeU32();
    this.unit = readable.takeU64();
  }
}
