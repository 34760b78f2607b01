import { createServer, type Server, type Socket } from 'node:net';
import { type Cancel, type Clock, systemClock, systemTimers, type Timers } from '../../core/index.ts';
import type { ServedDisk } from '../disk/served-disk.ts';
import { type Address, describeAddress, listen } from '../listen.ts';
import { type ConnectionContext, NbdConnection, type NbdPatience } from './connection.ts';
import type { NbdExport } from './export.ts';
import { type NbdStatistics, noStatistics } from './statistics.ts';

export interface NbdServerOptions {
  /** Stays the caller's, open, when the server is closed. */
  readonly disk: ServedDisk;
  /** Default `{ host: '127.0.0.1', port: 10809 }`, the port that IANA gave to NBD. */
  readonly address?: Address;
  /** Default the empty name. */
  readonly exportName?: string;
  readonly description?: string;
  /** More clients than this are turned away. Default 64. */
  readonly maxConnections?: number;
  /** Default 30 s and 60 s. */
  readonly patience?: Partial<NbdPatience>;
  /**
   * What clients see of a power cut: `shutdown` (default): NBD_ESHUTDOWN to everything until they connect again;
   * `disconnect`: their connections end.
   */
  readonly onCut?: 'shutdown' | 'disconnect';
  readonly clock?: Clock;
  readonly timers?: Timers;
  /** Is told of clients that were dropped, in words. */
  readonly onEvent?: (message: string) => void;
}

export const NBD_PORT = 10809;
/** How often clients are looked at that may be too slow. */
const SWEEP_MS = 1000;

/** Serves one disk to NBD clients. Close it to stop. */
export class NbdServer {
  readonly statistics: NbdStatistics = noStatistics();
  readonly #server: Server;
  readonly #connections = new Set<NbdConnection>();
  readonly #context: ConnectionContext;
  readonly #maxConnections: number;
  readonly #endPowerWatch: () => void;
  #sweep: Cancel | undefined;
  #address: Address;

  private constructor(options: NbdServerOptions) {
    const { disk, patience, maxConnections = 64, onEvent = () => undefined } = options;
    const exported: NbdExport = { disk, name: options.exportName ?? '', description: options.description ?? '' };
    this.#maxConnections = maxConnections;
    this.#address = options.address ?? { host: '127.0.0.1', port: NBD_PORT };
    this.#context = {
      exported,
      statistics: this.statistics,
      clock: options.clock ?? systemClock,
      timers: options.timers ?? systemTimers,
      patience: { handshakeMs: 30_000, stallMs: 60_000, ...patience },
      onEvent,
      onClose: (connection) => this.#forget(connection),
    };
    this.#server = createServer({ pauseOnConnect: true }, (socket) => this.#accept(socket));
    this.#endPowerWatch = disk.onPower((power) => {
      if (power !== 'off' || options.onCut !== 'disconnect') return;
      // Not from within an operation of one of them.
      this.#context.timers.soon(() => {
        for (const connection of [...this.#connections]) connection.drop(undefined);
      });
    });
  }

  /** @throws CodedError EINVAL, EBUSY where it can't listen */
  static async start(options: NbdServerOptions): Promise<NbdServer> {
    const server = new NbdServer(options);
    try {
      server.#address = await listen(server.#server, server.#address);
    } catch (error) {
      server.#endPowerWatch();
      throw error;
    }
    return server;
  }

  /** Where it listens. */
  get address(): Address {
    return this.#address;
  }

  /** For clients that take a URI: nbdinfo, nbdcopy, qemu-img, fio. */
  get uri(): string {
    const name = encodeURIComponent(this.#context.exported.name);
    if ('path' in this.#address) return `nbd+unix:///${name}?socket=${this.#address.path}`;
    return `nbd://${describeAddress(this.#address)}/${name}`;
  }

  /** Takes no more clients, and ends the connections. */
  async close(): Promise<void> {
    this.#endPowerWatch();
    this.#sweep?.();
    const closed = new Promise<void>((resolve) => this.#server.close(() => resolve()));
    for (const connection of [...this.#connections]) connection.drop(undefined);
    await closed;
  }

  #accept(socket: Socket): void {
    if (this.#connections.size >= this.#maxConnections) {
      this.#context.onEvent(`a client was turned away: there are ${this.#maxConnections} already`);
      socket.on('error', () => undefined);
      socket.destroy();
      return;
    }
    this.statistics.connections++;
    this.statistics.connectionsTotal++;
    this.#connections.add(new NbdConnection(socket, this.#context));
    this.#sweepLater();
  }

  #forget(connection: NbdConnection): void {
    if (this.#connections.delete(connection)) this.statistics.connections--;
  }

  #sweepLater(): void {
    this.#sweep ??= this.#context.timers.after(SWEEP_MS, () => {
      this.#sweep = undefined;
      const nowMs = this.#context.clock.monotonicMs();
      for (const connection of [...this.#connections]) connection.checkPatience(nowMs);
      if (this.#connections.size > 0) this.#sweepLater();
    });
  }
}
