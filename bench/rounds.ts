/** How often everything is measured. The first rounds warm the machine code up and are not kept. */
export interface Rounds {
  readonly warmUp: number;
  readonly kept: number;
}

/**
 * Measures each subject once a round: A B C, B C A, C A B … Slow changes of the machine (heat, a neighbour)
 * meet all subjects alike, and turning the order gives no subject the same predecessor all the time.
 *
 * @returns the kept measurements of each subject, in the order of the rounds.
 */
export async function interleaved<S, M>(
  subjects: readonly S[],
  rounds: Rounds,
  measure: (subject: S) => M | Promise<M>,
): Promise<Map<S, M[]>> {
  const measured = new Map<S, M[]>(subjects.map((subject) => [subject, []]));
  for (let round = 0; round < rounds.warmUp + rounds.kept; round += 1) {
    const first = round % subjects.length;
    for (const subject of [...subjects.slice(first), ...subjects.slice(0, first)]) {
      const found = await measure(subject);
      if (round >= rounds.warmUp) measured.get(subject)?.push(found);
    }
  }
  return measured;
}
