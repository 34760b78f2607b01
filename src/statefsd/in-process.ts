import type { Channel, ChannelHandlers, Connector } from './channel.ts';
import type { StateFsService } from './service.ts';
import type { Peer, Session } from './session.ts';

/**
 * Connects a client to a service in the same process, with no socket between them: for tests, and for a program that
 * serves itself. The same frames go through it. It is as deterministic as the service's timers.
 * @param subject who the client is
 */
export function inProcess(service: StateFsService, subject: string): Connector {
  return (handlers) => new InProcessConnection(service, subject, handlers).start();
}

class InProcessConnection implements Peer, Channel {
  readonly pendingBytes = 0;
  readonly #service: StateFsService;
  readonly #subject: string;
  readonly #handlers: ChannelHandlers;
  #session: Session | undefined;
  #isOver = false;
  #isPaused = false;
  readonly #waiting: Uint8Array[] = [];

  constructor(service: StateFsService, subject: string, handlers: ChannelHandlers) {
    this.#service = service;
    this.#subject = subject;
    this.#handlers = handlers;
  }

  start(): () => void {
    const admission = this.#service.connect(this.#subject, this);
    if ('session' in admission) {
      this.#session = admission.session;
      this.#handlers.opened(this);
    }
    return () => this.close();
  }

  write(frame: Uint8Array): void {
    if (this.#isPaused) this.#waiting.push(frame);
    else this.#session?.receive(frame);
  }

  close(): void {
    if (this.#isOver) return;
    this.#isOver = true;
    this.#session?.lost('the client closed the connection');
  }

  send(frame: Uint8Array): void {
    if (!this.#isOver) this.#handlers.received(frame);
  }

  pause(): void {
    this.#isPaused = true;
  }

  resume(): void {
    this.#isPaused = false;
    while (!this.#isPaused) {
      const frame = this.#waiting.shift();
      if (frame === undefined) return;
      this.#session?.receive(frame);
    }
  }

  end(): void {
    if (this.#isOver) return;
    this.#isOver = true;
    this.#handlers.closed('the server ended the connection');
  }

  destroy(): void {
    this.end();
  }
}
