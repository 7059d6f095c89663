# install.sh: the wheel into /opt/adcore, held against what it asks for; then bytecode for all.
set -eu
PYTHON=/opt/adcore/bin/python
export PYTHON

sh image/pip.sh install --no-deps /wheels/*.whl
# requirements.txt is complete, and agrees with pyproject.toml.
sh image/pip.sh check
# Sources of what is compiled, which some wheels bring.
find /opt/adcore /opt/control -name '*.pyx' -o -name '*.c' -o -name '*.a' | xargs rm -f
# A debugger's tables, a third of the compiled code's size.
find /opt/adcore /opt/control -name '*.so*' -type f -exec strip --strip-unneeded {} +
# "unchecked": whatever becomes of the sources' times, the bytecode is taken.
for folder in /opt/adcore/lib/python3.13/site-packages /opt/control; do
    $PYTHON -m compileall -q -j 0 --invalidation-mode unchecked-hash "$folder"
done
# There is no shell to source them.
rm -f /opt/adcore/bin/activate* /opt/adcore/bin/Activate*
# As it will run: with nothing set.
env -i /opt/adcore/bin/adcore --help >/dev/null
