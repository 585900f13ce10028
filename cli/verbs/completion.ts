/** `reckon completion bash|zsh|fish`: a script that lets the shell ask `reckon __complete` what may come next; where that knows of nothing, files. */

const SCRIPTS: Readonly<Record<string, string>> = {
  bash: `# bash completion for reckon:  source <(reckon completion bash)
_reckon() {
  local IFS=$'\\n'
  COMPREPLY=($(reckon __complete "\${COMP_WORDS[@]:1:COMP_CWORD}" 2>/dev/null))
  [[ \${#COMPREPLY[@]} -eq 1 && \${COMPREPLY[0]} == */ ]] && compopt -o nospace
  return 0
}
complete -o default -F _reckon reckon
`,
  zsh: `#compdef reckon
# zsh completion for reckon:  source <(reckon completion zsh)
_reckon() {
  local -a found
  found=(\${(f)"$(reckon __complete "\${(@)words[2,CURRENT]}" 2>/dev/null)"})
  if (( $#found )); then compadd -- $found; else _files; fi
}
compdef _reckon reckon
`,
  fish: `# fish completion for reckon:  reckon completion fish | source
function __reckon_complete
  set -l found (reckon __complete (commandline -opc)[2..] (commandline -ct) 2>/dev/null)
  if set -q found[1]
    printf '%s\\n' $found
  else
    __fish_complete_path (commandline -ct)
  end
end
complete -c reckon -f -a '(__reckon_complete)'
`,
};

/** Undefined for a shell that there is no script for. */
export const completionScript = (shell: string | undefined): string | undefined =>
  shell !== undefined && Object.hasOwn(SCRIPTS, shell) ? SCRIPTS[shell] : undefined;
export const SHELLS = Object.keys(SCRIPTS);
