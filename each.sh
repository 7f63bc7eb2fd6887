cd /tmp/bert
T="model=bert model.width=32 model.depth=1 model.heads=2 model.tokenizer.vocab_size=1000 data.root=/work/shared/data logger=csv trainer.precision=32 trainer.threads=1 trainer.max_epochs=1 data.limit_train=300 data.limit_val=60 data.limit_test=60"
for w in "task=text_classify data=cola" "task=text_classify data=mrpc" "task=text_regress data=stsb" "task=tag data=wnut17" "task=span data=squad"; do
 d=$(echo $w | tr -dc 'a-z0-9'); rm -rf x_$d; echo "== $w"; timeout 200 python -m tfcli train $T $w run.dir=x_$d 2>&1 | grep -v "^W&B" | tail -14
done
