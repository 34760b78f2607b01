import type { Command } from 'commander';
import type { Output } from './output.ts';

/** What a command gets from the program that it is a part of. */
export interface CommandContext {
  readonly output: Output;
  /** To be called with the command's exit code, once it is known. */
  exit(code: number): void;
}

/** Makes a command: its options, its help, and what it does. Each stands in a file of its own. */
export type MakeCommand = (context: CommandContext) => Command;
