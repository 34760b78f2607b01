import babel from '@babel/core';
import { allMutators } from './node_modules/@stryker-mutator/instrumenter/dist/src/mutators/mutate.js';

const { types } = babel;

/**
 * Takes out one statement that is a call: a flush, a check, a step of a recovery. Stryker empties blocks and changes
 * conditions, and has no mutator that does this, nor a way to add one: its list of mutators is extended in place.
 */
const callRemoval = {
  name: 'CallRemoval',
  *mutate(path) {
    if (!path.isExpressionStatement()) return;
    const { expression } = path.node;
    const call = types.isAwaitExpression(expression) ? expression.argument : expression;
    if (!types.isCallExpression(call) && !types.isOptionalCallExpression(call)) return;
    // Without it a class that extends another can't be made at all: no test is needed to see that.
    if (types.isSuper(call.callee)) return;
    yield types.emptyStatement();
  },
};

/** Adds the mutator to those of this process. */
export function addCallRemoval() {
  if (!Array.isArray(allMutators)) throw new Error('mutation: expected an array of mutators in the instrumenter');
  if (!allMutators.includes(callRemoval)) allMutators.push(callRemoval);
}
