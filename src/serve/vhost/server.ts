import { assertInteger, type Clock, systemClock, systemTimers, type Timers } from '../../core/index.ts';
import { BlkDevice, F_IN_ORDER } from '../../virtio/index.ts';
import type { ServedDisk } from '../disk/served-disk.ts';
import { removeStale } from '../listen.ts';
import { DiskPort } from './disk-port.ts';
import { type EndWatch, type Host, NOTHING_YET } from './host.ts';
import { openHost } from './koffi-host.ts';
import { MemoryTable } from './memory-table.ts';
import { RING_SIZE_MAX } from './ring.ts';
import { type SessionContext, VhostSession } from './session.ts';
import { noStatistics, type VhostStatistics } from './statistics.ts';

/** Data segments in a request, for the 128 entries that QEMU's rings have by default. */
const SEGMENTS_MAX = 126;
/** More than a front end with a queue for each of its processors is likely to ask for. */
const QUEUES_DEFAULT = 8;

export interface VhostUserServerOptions {
  /** Stays the caller's, open, when the server is closed. */
  readonly disk: ServedDisk;
  /** Path of the Unix socket. */
  readonly path: string;
  /** How many queues a driver may have. Default 8. */
  readonly queueCount?: number;
  /**
   * What a driver sees of a power cut: `stall` (default): no answers, until it starts anew or its front end connects
   * again; `disconnect`: the connection ends, and no other is taken before the power is back.
   */
  readonly onCut?: 'stall' | 'disconnect';
  /**
   * Whether guest memory may be a file that its owner can make shorter. If that is done, touching what is gone ends the
   * process. Default false: such memory is refused.
   */
  readonly allowUnsealed?: boolean;
  /** Default: the operating system. It is the server's, and disposed of with it. */
  readonly host?: Host;
  readonly clock?: Clock;
  readonly timers?: Timers;
  /** Is told of front ends and of what they did wrong, in words. */
  readonly onEvent?: (message: string) => void;
}

/**
 * Serves a disk to a virtual machine as its vhost-user-blk back end: the machine's rings and memory are shared with this
 * process, which carries out the requests on the disk. One front end at a time.
 */
export class VhostUserServer {
  readonly path: string;
  readonly queueCount: number;
  readonly statistics: VhostStatistics = noStatistics();
  readonly #host: Host;
  readonly #listener: number;
  readonly #context: SessionContext;
  readonly #endDiskWatch: () => void;
  readonly #endListening: EndWatch | undefined;
  readonly #onCut: 'stall' | 'disconnect';
  #session: VhostSession | undefined;
  #isClosed = false;

  private constructor(host: Host, options: VhostUserServerOptions) {
    const { disk, path, queueCount = QUEUES_DEFAULT, onEvent = () => undefined } = options;
    assertInteger(queueCount, 'queueCount', 1, 256);
    this.path = path;
    this.queueCount = queueCount;
    this.#host = host;
    this.#onCut = options.onCut ?? 'stall';
    const allowsUnsealed = options.allowUnsealed ?? false;
    const table = new MemoryTable(host, allowsUnsealed);
    const port = new DiskPort(disk, this.statistics);
    this.#context = {
      host,
      disk,
      port,
      table,
      // In order, a used entry stands for several requests, which the area that tracks them has no place for.
      device: new BlkDevice(port, table.memory, {
        queueSizeMax: RING_SIZE_MAX,
        segMax: SEGMENTS_MAX,
        queueCount,
        withhold: [F_IN_ORDER],
      }),
      cacheMode: { isWriteThrough: false },
      queueCount,
      allowsUnsealed,
      statistics: this.statistics,
      clock: options.clock ?? systemClock,
      timers: options.timers ?? systemTimers,
      onEvent,
      onEnd: (why) => this.#sessionEnded(why),
    };
    this.#listener = host.listen(path);
    this.#endListening = host.watch(this.#listener, () => this.#accept());
    const endPower = disk.onPower(() => this.#powerChanged());
    const endRelease = disk.onRelease(() => this.#session?.released());
    this.#endDiskWatch = () => {
      endPower();
      endRelease();
    };
  }

  /**
   * Starts to listen. A socket that a dead server left behind is replaced.
   * @throws CodedError EINVAL where it can't listen, or koffi is not there; EBUSY where another server has the socket
   */
  static async start(options: VhostUserServerOptions): Promise<VhostUserServer> {
    const host = options.host ?? (await openHost());
    try {
      if (options.host === undefined) await removeStale(options.path);
      return new VhostUserServer(host, options);
    } catch (error) {
      host.dispose();
      throw error;
    }
  }

  /** Ends the connection, as {@link VhostSession.end}, and listens no more. */
  close(): void {
    if (this.#isClosed) return;
    this.#isClosed = true;
    this.#endDiskWatch();
    this.#endListening?.();
    this.#session?.end();
    this.#host.endListening(this.#listener, this.path);
    this.#host.dispose();
  }

  #accept(): void {
    const socket = this.#host.accept(this.#listener);
    if (socket === NOTHING_YET) return;
    // One that died is noticed late, where its successor is quick.
    if (this.#session?.isAlive === false) this.#session.end();
    const { disk, onEvent } = this.#context;
    const isOff = this.#onCut === 'disconnect' && disk.power !== 'on';
    if (this.#session !== undefined || isOff) {
      onEvent(`a front end was turned away: ${isOff ? 'the power is off' : 'there is one already'}`);
      this.#host.close(socket);
      return;
    }
    this.statistics.connections++;
    this.statistics.connectionsTotal++;
    onEvent('a front end has connected');
    this.#session = new VhostSession(socket, this.#context);
  }

  #sessionEnded(why: string | undefined): void {
    this.#session = undefined;
    this.statistics.connections--;
    if (why !== undefined) this.statistics.clientsDropped++;
    this.#context.onEvent(why === undefined ? 'the front end has gone' : `the front end was dropped: ${why}`);
  }

  #powerChanged(): void {
    const { disk, timers } = this.#context;
    // It may be told from within a request, and a call from foreign code does not let those run who wait for a promise.
    timers.soon(() => {
      if (this.#onCut === 'disconnect' && disk.power === 'off') this.#session?.end();
      else this.#session?.powerChanged();
    });
    if (disk.power === 'off') this.#session?.powerChanged();
  }
}
