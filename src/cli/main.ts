#!/usr/bin/env node
import { readFileSync, writeSync } from 'node:fs';
import process from 'node:process';
import { systemClock } from '../core/index.ts';
import { EXIT_MISUSE } from './exit-codes.ts';
import { runCommandLine } from './program.ts';
import { lineOf } from './scenarios.ts';

const { version } = JSON.parse(readFileSync(new URL('../../package.json', import.meta.url), 'utf8')) as {
  version: string;
};

/** The exit codes are verdicts: until the command has given its own, no way to end may look like one. */
let hasEnded = false;

/** Ends the process, whatever the scenario left running (timers, sockets), once all output is out. */
function end(code: number): void {
  hasEnded = true;
  process.exitCode = code;
  // One turn more, for the errors of the streams.
  process.stdout.write('', () => process.stderr.write('', () => setImmediate(() => process.exit())));
}

function fail(text: string): void {
  process.stderr.write(`powercut: ${text}\n`);
  end(EXIT_MISUSE);
}

process.on('exit', () => {
  if (hasEnded) return;
  process.stderr.write(
    'powercut: ended before the command did: a promise of the scenario never settles, or it calls process.exit\n',
  );
  process.exitCode = EXIT_MISUSE;
});
process.on('uncaughtException', (error) => {
  fail(`nothing caught an error, of a promise or a timer of the scenario perhaps: ${lineOf(error)}`);
});
for (const stream of [process.stdout, process.stderr]) {
  // A reader that went away (head, less) misses the rest; the exit code still tells.
  stream.on('error', (error: NodeJS.ErrnoException) => {
    if (error.code === 'EPIPE') return;
    // Whatever is written from here on would fail alike.
    writeSync(process.stderr.fd, `powercut: the output can't be written: ${error.message}\n`);
    hasEnded = true;
    process.exit(EXIT_MISUSE);
  });
}

const wantsColour = process.env['NO_COLOR'] === undefined && (process.stdout.isTTY ?? false);
runCommandLine(process.argv.slice(2), version, {
  out: (text) => void process.stdout.write(text),
  err: (text) => void process.stderr.write(text),
  isTerminal: process.stderr.isTTY ?? false,
  useColour: wantsColour,
  clock: systemClock,
}).then(end, (error: unknown) => fail((error instanceof Error ? error.stack : undefined) ?? lineOf(error)));
