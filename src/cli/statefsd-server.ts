import process from 'node:process';
import { codeOf, messageOf, systemTimers } from '../core/index.ts';
import { type CommitMode, MAX_PAYLOAD_BYTES, open, type StateFs, type StoreEvent } from '../statefs/index.ts';
import {
  Audit,
  AuditFile,
  AuditLogd,
  type AuditSink,
  Authority,
  auditStore,
  baselinePolicy,
  loadPolicy,
  reloadPolicy,
  type ServiceEvent,
  StateFsService,
  UnixServer,
} from '../statefsd/index.ts';
import { EXIT_CLEAN, EXIT_MISUSE, EXIT_VIOLATION } from './exit-codes.ts';
import { isSameFile } from './new-file.ts';
import type { Output } from './output.ts';
import { misuse } from './scenarios.ts';
import { openStateImage, type StateImage } from './state-image.ts';
import { countOf, formatBytes } from './units.ts';

/** The options of `powercut statefsd`, as parsed. */
export interface StatefsdFlags {
  readonly image: string;
  readonly sockets: string;
  readonly policy?: string;
  readonly audit?: string;
  readonly logd?: string;
  readonly auditRequired?: boolean;
  readonly size: number;
  readonly commit: CommitMode;
  readonly payload: number;
  readonly slow: number;
  readonly deadline?: number;
  readonly forTests?: boolean;
  readonly json?: boolean;
}

/** What the server is told from outside, by signals. */
export interface Control {
  /** @returns stops listening */
  on(signal: 'stop' | 'reload', run: (name: string) => void): () => void;
}

/** The process's signals: SIGTERM and SIGINT stop, SIGHUP reloads. */
export const signals: Control = {
  on: (signal, run) => {
    const names = signal === 'stop' ? (['SIGTERM', 'SIGINT'] as const) : (['SIGHUP'] as const);
    for (const name of names) process.on(name, run);
    return () => {
      for (const name of names) process.off(name, run);
    };
  },
};

/**
 * Runs `powercut statefsd` until it is stopped.
 * @param openImage opens the image of a path, or makes one of a size; tests put a failing disk in
 * @returns the exit code
 */
export async function runStatefsd(
  flags: StatefsdFlags,
  output: Output,
  control: Control,
  openImage: OpenImage = openStateImage,
): Promise<number> {
  const server = new StateServer(flags, output, openImage);
  // Before it says that it serves, and before anything is open: no signal is ever met by the system's own way.
  const offs = [
    control.on('stop', (name) => server.finish(EXIT_CLEAN, name)),
    control.on('reload', () => server.reload()),
  ];
  try {
    await server.start();
    return await server.serve();
  } catch (error) {
    await server.stop();
    if (codeOf(error) === undefined) throw error;
    output.err(`powercut statefsd: ${messageOf(error)}\n`);
    return EXIT_MISUSE;
  } finally {
    for (const off of offs) off();
  }
}

type OpenImage = (path: string, sizeBytes: number) => StateImage;

/** The service with everything around it: image, store, audit, policy, sockets. */
class StateServer {
  readonly #flags: StatefsdFlags;
  readonly #output: Output;
  readonly #openImage: OpenImage;
  readonly #audit: Audit;
  readonly #sinks: AuditSink[] = [];
  #image: StateImage | undefined;
  #store: StateFs | undefined;
  #server: UnixServer | undefined;
  #service: StateFsService | undefined;
  readonly #started: Settable<void> = settable();
  #policyRun: Promise<void> = this.#started.promise;
  /** How it is to end, once that is known. */
  readonly #end: Promise<{ readonly exit: number; readonly why: string }>;
  /** Ends {@link serve}. The first call counts. */
  readonly finish: (exit: number, why: string) => void;

  constructor(flags: StatefsdFlags, output: Output, openImage: OpenImage) {
    this.#flags = flags;
    this.#openImage = openImage;
    this.#output = output;
    this.#audit = new Audit({ clock: output.clock, sinks: this.#sinks });
    const { promise, resolve } = settable<{ readonly exit: number; readonly why: string }>();
    this.#end = promise;
    this.finish = (exit, why) => resolve({ exit, why });
  }

  async start(): Promise<void> {
    const { policy, audit, logd, auditRequired: required = false, image, size, sockets } = this.#flags;
    const authority = new Authority(policy === undefined ? baselinePolicy() : loadPolicy(policy));
    if (audit !== undefined && isSameFile(audit, image))
      throw misuse(`--audit: ${audit} is the image: name another file`);
    if (audit !== undefined) this.#sinks.push(new AuditFile({ path: audit, required }));
    if (logd !== undefined) this.#sinks.push(new AuditLogd({ path: logd, required, timers: systemTimers }));
    this.#image = this.#openImage(image, size);
    this.#store = this.#open();
    this.#service = this.#serviceOf(this.#store, authority);
    this.#audit.tell('server', 'start', 'OK', image);
    this.#server = await UnixServer.listen(this.#service, sockets);
    this.#started.resolve();
    this.#tellStart(this.#store, this.#server);
  }

  /** Serves until it is told to stop, or the store takes no more changes. @returns the exit code */
  async serve(): Promise<number> {
    const { exit, why } = await this.#end;
    this.#say('stopping', why);
    await this.#policyRun;
    return (await this.stop()) ? exit : EXIT_VIOLATION;
  }

  /** Answers what has arrived, and closes everything. @returns whether the store was closed cleanly */
  async stop(): Promise<boolean> {
    await this.#server?.close();
    let isClean = true;
    try {
      (this.#service?.store ?? this.#store)?.close();
      this.#image?.device.close();
    } catch (error) {
      isClean = false;
      this.#say('failed', `closing the store: ${messageOf(error)}`);
    }
    if (this.#server !== undefined) this.#audit.tell('server', 'stop', isClean ? 'OK' : 'EIO', this.#flags.image);
    this.#audit.close();
    return isClean;
  }

  #serviceOf(store: StateFs, authority: Authority): StateFsService {
    const { commit, payload, slow, deadline, forTests } = this.#flags;
    const reopen = (old: StateFs): StateFs => {
      old.close();
      return this.#open();
    };
    return new StateFsService({
      store,
      authority,
      audit: this.#audit,
      commit,
      budgets: {
        payloadBytes: payload,
        softLatencyMs: slow,
        ...(deadline === undefined ? {} : { deadlineMs: deadline }),
      },
      clock: this.#output.clock,
      onEvent: (event) => this.#onService(event),
      ...(forTests === true ? { reopen } : {}),
    });
  }

  #open(): StateFs {
    const { device } = this.#image as StateImage;
    return open(device, {
      clock: this.#output.clock,
      // The service holds requests to their budgets, which are the policy's.
      budgets: {
        payloadBytes: MAX_PAYLOAD_BYTES,
        // The largest payload, and the record under which it can be asked for again.
        transactionBytes: MAX_PAYLOAD_BYTES + 4096,
        softLatencyMs: Number.POSITIVE_INFINITY,
      },
      onEvent: (event) => this.#onStore(event),
    });
  }

  #onStore(event: StoreEvent): void {
    auditStore(this.#audit, event);
    if (event.type === 'damage') {
      const { keys, what, sector } = event.damage;
      this.#say('damage', `${keys.join(', ') || 'keys unknown'}: ${what} (sector ${sector})`);
    } else if (event.type === 'superblock') this.#say('damage', `superblock: ${event.what}`);
    else if (event.type === 'latched') {
      this.#say('latched', `${messageOf(event.error)}: stopping, so that a restart can find out`);
      this.finish(EXIT_VIOLATION, 'the store takes no more changes');
    }
  }

  #onService(event: ServiceEvent): void {
    if (event.type === 'slow') {
      const { subject, operation, path, elapsedMs, budgetMs } = event;
      this.#say('slow', `${subject} ${operation} ${path}: ${elapsedMs.toFixed(1)} ms, over ${budgetMs}`);
    } else if (event.type === 'defect') {
      const { error } = event;
      this.#say('defect', error instanceof Error ? (error.stack ?? error.message) : String(error));
    }
  }

  /** Reads the policy anew, once it serves. One after the other, however often it is asked for. */
  reload(): void {
    this.#policyRun = this.#policyRun.then(async () => {
      const { policy } = this.#flags;
      if (policy === undefined || this.#service === undefined) {
        this.#say('policy', 'there is no file to read anew: start with --policy');
        return;
      }
      const reload = reloadPolicy(this.#service.authority, policy, this.#audit);
      if (!reload.ok) {
        this.#say('policy', `refused, the old one stays in force: ${reload.error.message}`);
        return;
      }
      try {
        await this.#server?.follow();
        this.#say('policy', `in force: ${reload.rules} rules, ${reload.subjects} subjects`);
      } catch (error) {
        this.#say('policy', `in force, but not every subject has its socket: ${messageOf(error)}`);
      }
    });
  }

  #tellStart(store: StateFs, server: UnixServer): void {
    const { image, sockets, json } = this.#flags;
    const { keys, freeBytes, damage } = store.stats();
    const { subjects } = server;
    const isNew = this.#image?.isNew === true;
    if (json === true) {
      const ready = { event: 'ready', image, isNew, sockets, subjects, keys, freeBytes, damage: damage.length };
      this.#output.out(`${JSON.stringify(ready)}\n`);
      return;
    }
    const made = isNew ? ', made just now' : '';
    this.#output.out(
      `statefsd: serving ${image}${made}: ${countOf(keys, 'key')}, ${formatBytes(freeBytes)} free\n` +
        `statefsd: ${subjects.length} sockets in ${sockets}: ${subjects.join(', ')}\n`,
    );
  }

  /** A line for the log. */
  #say(event: string, message: string): void {
    if (this.#flags.json === true) this.#output.out(`${JSON.stringify({ event, message })}\n`);
    else this.#output.err(`statefsd: ${event}: ${message}\n`);
  }
}

interface Settable<T> {
  readonly promise: Promise<T>;
  readonly resolve: (value: T) => void;
}

function settable<T>(): Settable<T> {
  let resolve: (value: T) => void = () => {};
  const promise = new Promise<T>((settle) => {
    resolve = settle;
  });
  return { promise, resolve };
}
